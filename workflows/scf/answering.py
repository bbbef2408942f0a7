"""Predictions for scripts that run beside this program: the model is read once, here, and not by each of them."""

import json
import shutil
import socketserver
import tempfile
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from threading import Lock, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.errors import Refused
from converters.starts.asking import SOCKET_VARIABLE, Question, numbers_in, species_of
from converters.storage.writer import DatasetWriter
from workflows.processes.threads import threads_for

if TYPE_CHECKING:
    from ase import Atoms

    from converters.frames.frame import Frame
    from slem_plugin.model import Model


class Answers:
    """A socket that only this user reaches; each question is a structure, each answer a file with its frame or a reason why there is none.

    `known` are models by the names that questions have for them; a model of another name is read from the file of that name.
    """

    def __init__(self, predicting: Lock, known: "Mapping[str, Callable[[Question], Frame]] | None" = None) -> None:
        self.predicting, self.known, self.numbers = predicting, known or {}, count()
        self.folder = Path(tempfile.mkdtemp(prefix="slem-"))
        self.path = self.folder / "socket"
        answers = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                line = self.rfile.readline()
                if line:
                    self.wfile.write(json.dumps(answers.answer(json.loads(line))).encode() + b"\n")

        self.server = socketserver.ThreadingUnixStreamServer(str(self.path), Handler)
        self.server.daemon_threads = True
        Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True).start()

    @property
    def environment(self) -> Mapping[str, str]:
        return {SOCKET_VARIABLE: str(self.path)}

    def answer(self, question: Mapping[str, Any]) -> Mapping[str, str]:
        """The place of a file with the frame that the model of the question gives, which who asked removes, or why there is none."""
        try:
            with self.predicting:
                structure = (
                    np.array(question["cell"], dtype=float),
                    np.array(question["pbc"], dtype=bool),
                    np.array(question["positions"], dtype=float),
                    [species_of(plain) for plain in question["basis"]],
                    np.array(question["species"], dtype=int),
                )
                frame = self.frame_for(question["model"], structure)
                path = self.folder / f"{next(self.numbers)}.h5"
                with DatasetWriter(path) as writer:
                    writer.append(frame)
        except Refused as refusal:
            return {"refused": str(refusal)}
        return {"frame": str(path)}

    def frame_for(self, model: str, structure: Question) -> "Frame":
        if model in self.known:
            return self.known[model](structure)
        from slem_plugin.checkpoint import cached_model

        return predict_for(cached_model(model), structure)

    def __enter__(self) -> "Answers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.shutdown()
        self.server.server_close()
        shutil.rmtree(self.folder, ignore_errors=True)


def predict_for(model: "Model", question: "Question | Atoms") -> "Frame":
    """What a model predicts for a structure, whose species are numbered in a basis of its own or have the names of elements."""
    from converters.frames.neighbours import Structure
    from slem_plugin.prediction import predict

    if not isinstance(question, tuple):
        with threads_for(len(question)):
            return predict(model, question)
    cell_cv, pbc_c, positions_av, own, species_a = question
    numbers_a = numbers_in(model.blueprint.basis, own, "the run")[species_a]
    with threads_for(len(species_a)):
        return predict(model, Structure(cell_cv, pbc_c, positions_av, numbers_a))
