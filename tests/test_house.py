"""The house itself: imports only go down, the data layers live without torch, help answers fast."""

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from basis.spin import Spin
from converters.codes.known import KNOWN
from converters.frames.frame import OPERATORS

ROOT = Path(__file__).parent.parent
LAYERS = ["basis", "converters", "slem_plugin", "workflows"]
ALLOWED = {
    "basis": {"numpy", "scipy"},
    "converters": {"numpy", "scipy", "h5py", "ase", "pyscf", "sisl", "mumps"},
    "slem_plugin": {"numpy", "scipy", "torch", "e3nn", "safetensors", "ase", "tomli", "tomllib"},
}


# The public face hands on names of all rooms, so that people import one thing; it imports none of them before it is asked.
FACE = ROOT / "slem_plugin" / "__init__.py"
# Tests to inherit look at all rooms, as tests do; nothing that runs imports them.
TESTING = ROOT / "slem_plugin" / "testing"


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} has a relative import"
            yield node.lineno, (node.module or "").split(".")[0]


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_only_go_down(layer):
    above = set(LAYERS[LAYERS.index(layer) + 1 :]) | {"tests"}
    for path in set((ROOT / layer).rglob("*.py")) - {FACE, *TESTING.glob("*.py")}:
        for line, name in imports(path):
            assert name not in above, f"{path}:{line} imports {name} from above"
            if layer in ALLOWED and name not in LAYERS:
                assert name in ALLOWED[layer] | set(sys.stdlib_module_names), f"{path}:{line} imports {name}"


def test_data_layers_work_without_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import basis.couplings, basis.rotations, converters.storage.dataset, converters.physics.checks, converters.pyscf\n"
        "import workflows.convert, workflows.check, workflows.info, workflows.terminal.show, workflows.benchmarks.conversion\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from workflows.cli import main\n"
        "for words in (['--help'], *([verb, '--help'] for verb in main.commands)):\n"
        "    try: main(words)\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "heavy = {'numpy', 'torch', 'scipy', 'h5py', 'ase', 'pyscf', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for layer in LAYERS for path in (ROOT / layer).rglob("*.py")}
# The public face of the model is lazy: its names are asked for one by one, and nothing inside asks it for any.
LAZY = {"slem_plugin"}


@functools.cache
def tree_of(name):
    return ast.parse(MODULES[name].read_text())


@functools.cache
def is_door(name):
    """True for the __init__ of a package that only hands on names."""
    handed = (ast.Import, ast.ImportFrom, ast.Expr, ast.Assign)
    return MODULES[name].name == "__init__.py" and all(isinstance(node, handed) for node in tree_of(name).body)


@functools.cache
def imported_by(name):
    """Modules that a module imports anywhere: at its top, in its functions, for type checks. Packages that hand on names are looked through."""
    found = set()
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in MODULES}
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for alias in node.names:
                found |= origins(node.module, alias.name)
    return found - {name}


def origins(module, wanted):
    """The modules in which a name that is imported from a module is defined."""
    if f"{module}.{wanted}" in MODULES:
        return {f"{module}.{wanted}"}
    if not is_door(module):
        return {module}
    for node in tree_of(module).body:
        if isinstance(node, ast.ImportFrom) and any((alias.asname or alias.name) == wanted for alias in node.names):
            (alias,) = (alias for alias in node.names if (alias.asname or alias.name) == wanted)
            return origins(node.module, alias.name) if node.module in MODULES else set()
    return {module}


def circles():
    """A circle of imports through each module that stands in one."""
    for start in sorted(set(MODULES) - LAZY):
        came_from, waiting = {start: None}, [start]
        while waiting:
            name = waiting.pop(0)
            if start in (reached := imported_by(name) - LAZY) and name != start:
                path = [name]
                while came_from[path[-1]] is not None:
                    path.append(came_from[path[-1]])
                yield " > ".join([*reversed(path), start])
                break
            for other in sorted(reached - set(came_from)):
                came_from[other] = name
                waiting.append(other)


def test_no_imports_run_in_a_circle():
    assert list(circles()) == []


# Files outside of a code's room and its record that may name one, and why.
MAY_NAME_CODES = {
    "slem_plugin/__init__.py": "the door for scripts of PySCF, whose SCF objects are Python's own",
    "slem_plugin/pyscf_start.py": "the same door",
    "workflows/terminal/cures.py": "words for people, who want an example",
    "workflows/demo.py": "runs PySCF to have something to show",
    "workflows/benchmarks": "run PySCF to have something to measure",
}
ROOMS = tuple(KNOWN)


def words_of(tree):
    """Names, imports and texts of a module, with their lines; not what it says to people in docstrings and examples."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    examples = {
        id(node.args[0]) for node in ast.walk(tree) if isinstance(node, ast.Call) and named(node) == "as_command"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | examples:
            yield node.lineno, node.value
        elif isinstance(node, ast.Name | ast.Attribute):
            yield node.lineno, node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, f"{node.module} {' '.join(alias.name for alias in node.names)}"
        elif isinstance(node, ast.Import):
            yield node.lineno, " ".join(alias.name for alias in node.names)


def named(call):
    return call.func.id if isinstance(call.func, ast.Name) else ""


def test_nothing_outside_names_a_code():
    """What is known about a code stands in its room and in its record; the rest of the program asks those."""
    homes = [f"converters/{room}" for room in ROOMS] + ["converters/codes/known"]
    names = re.compile(rf"(?<![a-z])(?:{'|'.join(ROOMS)})", re.I)  # not the end of "claims"
    found = []
    for path in MODULES.values():
        place = str(path.relative_to(ROOT))
        if not place.startswith((*homes, *MAY_NAME_CODES)):
            words = words_of(ast.parse(path.read_text()))
            found += [f"{place}:{line}: {text[:90]}" for line, text in words if names.search(text)]
    assert found == []


def test_every_record_is_whole():
    for name, about in KNOWN.items():
        assert about.name == name
        assert set(about.layouts) <= {spin.value for spin in Spin}
        assert set(about.operators) <= set(OPERATORS)
        assert bool(about.routes and about.inputs) == bool(about.load_restart or about.load_script)
        assert about.load().read_functions("/nothing.h5/there", ()) == {}


def test_nothing_that_runs_imports_tests():
    for layer in LAYERS:
        for path in set((ROOT / layer).rglob("*.py")) - set(TESTING.glob("*.py")):
            assert not re.search(r"^\s*(from|import) slem_plugin\.testing", path.read_text(), re.M), path


def test_nothing_but_the_rooms_is_kept():
    """What a command left in the checkout is not committed with the rest."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    folders = {path.split("/")[0] for path in done.stdout.splitlines() if "/" in path}
    assert folders == {".ci", ".github", "docs", "tests", *LAYERS}


@pytest.mark.slow
def test_types_are_sound():
    pytest.importorskip("mypy")
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
