"""The house itself: imports only go down, the data layers live without torch, help answers fast."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ["basis", "converters", "slem_plugin", "workflows"]
ALLOWED = {
    "basis": {"numpy", "scipy"},
    "converters": {"numpy", "scipy", "h5py", "ase", "pyscf", "sisl"},
    "slem_plugin": {"numpy", "scipy", "torch", "safetensors", "ase", "tomli", "tomllib"},
}


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
    for path in (ROOT / layer).rglob("*.py"):
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
        "from workflows.cli import convert_command\n"
        "try: convert_command(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'numpy', 'torch', 'scipy', 'h5py', 'ase', 'pyscf', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def test_command_line_knows_every_code():
    from converters.runs import CODES as modules
    from workflows.commands.shared import CODES as choices

    assert set(choices) == set(modules)
