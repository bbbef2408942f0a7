"""The installed commands, from elsewhere than the checkout and with nothing but what the wheel asks for: `make smoke`."""

import json
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path

DATA = Path(__file__).parent / "data"
COMMANDS = Path(sysconfig.get_path("scripts"))


def slem(*words, code=0):
    done = subprocess.run([COMMANDS / words[0], *map(str, words[1:])], capture_output=True, text=True, check=False)
    assert done.returncode == code, (words, done)
    return done.stdout + done.stderr


def main():
    with tempfile.TemporaryDirectory() as folder:
        runs, data = Path(folder, "runs"), Path(folder, "data.h5")
        with tarfile.open(DATA / "siesta" / "si8.tar.xz") as archive:
            archive.extractall(runs, filter="data")
        listed = slem("slem", "--help")
        for path in sorted(COMMANDS.glob("slem-*")):
            assert path.name.removeprefix("slem-") in listed
            assert "Examples:" in slem(path.name, "--help")
        assert "3 converted" in slem("slem-convert", runs, "-o", data)
        assert "3 of 3 sound" in slem("slem-check", data)
        assert len(json.loads(slem("slem-bands", data, "-o", Path(folder, "bands.png"), "--json"))) == 1
        assert "siesta" in slem("slem-export", data, "-o", Path(folder, "start"))
        said = slem("slem-train", data, "-o", Path(folder, "model"), "--steps", "2", code=0 if has_torch() else 1)
        assert has_torch() or "pip install 'slem-plugin[model]' brings it" in said
    print(f"the commands of {COMMANDS} work")


def has_torch():
    return subprocess.run([sys.executable, "-c", "import torch"], capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    main()
