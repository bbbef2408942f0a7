"""What to do about each error that a user can meet: the one list, which docs/errors.md shows.

A test reads every message of the program and asks that it is in this list.
"""

import re
from typing import NamedTuple


class Cure(NamedTuple):
    """A kind of error, the pattern of its messages, and what to do about it."""

    kind: str
    pattern: str
    cure: str


# The first pattern that fits counts; the last one fits all that readers of files say.
CURES = (
    Cure(
        "the file is in use",
        r"in use by another process",
        "Wait until the other command ends, or write into another file: two commands never write one file at once.",
    ),
    Cure(
        "the disk is full, or a place may not be written or read",
        r"cannot be written: (?!DeepH|two)|permission denied|read-only file system|no space left|file too large",
        "Make room or get permission, then run the same command again: all that was committed is still there.",
    ),
    Cure(
        "a file or folder is not there",
        r"no such file|not a directory|is a directory|lies in a folder that does not exist|cannot be searched",
        "Look at the path; make the folder of an output first. A folder that may not be opened needs read permission.",
    ),
    Cure(
        "the journal of a dataset is damaged",
        r"expected a journal of this program",
        "A copy of the dataset was made while it was written. Copy both files again, or delete the journal: all frames committed before are whole.",
    ),
    Cure(
        "not a file of this program",
        r"is no HDF5 file|is an HDF5 file with format|is no dataset|is a safetensors file, but no|holds no reserved frame|is not what slem-scf",
        "Datasets come from slem-convert and slem-predict, models from slem-train, lists of SCF runs from slem-scf -o. Give the file, or the folder of the model.",
    ),
    Cure(
        "a newer program wrote it",
        r"this program reads",
        "Update this program: it reads what all older versions wrote, and nothing newer.",
    ),
    Cure(
        "no structure that can be read",
        r"is no structure that|claims .* atoms and ends|has no atoms$|are not finite$|has no cell vector",
        "Give a file that ASE reads (xyz, cif, POSCAR), a STRU, the input of a run, or a dataset; a periodic direction needs its cell vector.",
    ),
    Cure(
        "no run was found",
        r"holds nothing to read|holds no run|holds no matrices; switch|holds no frame|has no H or S beside it|is alone; expected|holds no INPUT",
        "Give the folder in which the code ran. The page of the code says which lines of its input make it write H, S and DM.",
    ),
    Cure(
        "the model does not fit",
        r"this model|the model was trained|was not predicted|train on one of them|the matrices are of|the data has [A-Z]|^operators (is|names)|start from matrices with",
        "A model belongs to the code, basis, spin layout and elements that it learned. Train one for these, or give structures of the kind for which it was made.",
    ),
    Cure(
        "the k mesh is too coarse for bands",
        r"too coarse for bands|how right it is between",
        "Run with a denser k mesh (docs/pyscf.md says how dense), or take PySCF's own get_bands. Radial functions come with --basis-dir; PySCF's are always there.",
    ),
    Cure(
        "what this program does not do",
        r"Cartesian d functions|k-point symmetry|does not carry the structure|convert single-point|no TSHS file of version 1|gamma_only run|DeepH has no collinear|tells elements apart only"
        r"|groups atoms by|left empty|cannot be written (for|in|as)|folded over|no uniform mesh|a mesh with -k for each k|convert the SCF object",
        "The message names what is possible instead. If you need it, tell us, with an example.",
    ),
    Cure(
        "files of a run are missing",
        r"beside (it|or above|[^ ]+; expected)|does not say which|of the same label|does not give the grid|does not name its element|expected the checkpoint of an SCF|has no LATTICE_VECTORS"
        r"|expected the STRU of the run|inputs? of OpenMX with",
        "Keep the files that the code writes together, its main output and its input too; the message names the one that was looked for.",
    ),
    Cure(
        "it is not clear which run is meant",
        r"choose one with --code|; name the one",
        "Say it: --code, or the file in place of the folder.",
    ),
    Cure(
        "the SCF has not ended well",
        r"holds H = 0; expected|holds H = 0, as|^converged|call mf.kernel|could not be checked",
        "Run the SCF to its end. What only could not be checked for lack of information is accepted without --strict.",
    ),
    Cure(
        "a version of the code with a known fault",
        r"rerun with|sigma_y is the opposite|noncollinear files of OpenMX 3.8",
        "The numbers of this version are wrong in this case; the message names a version, or a keyword, with which they are right.",
    ),
    Cure(
        "DM is not that of H",
        r"^DM (against|is whole)",
        "The code's own DM is not whole, as in ABACUS with symmetry 1: set symmetry 0, or let --rebuild-dm build it from H and S.",
    ),
    Cure(
        "S is not positive definite",
        r"not positive definite|^S positive|too near to singular|Angstrom apart$",
        "Two atoms are too near, or the functions are not those of the run: look at the atoms that are named.",
    ),
    Cure(
        "frames do not belong into one dataset",
        r"^is of \S+; .* holds|holds frames of|has other radial functions for|is compressed, so",
        "Use one dataset for each code and each set of radial functions; give another name with -o.",
    ),
    Cure(
        "radial functions do not fit",
        r"radial functions|functions of one code|expected one species|expected an orbital file|pao file|1DFFT|contracted basis|no functions \"|readable orbitals|whole ion file|has the shells .* needs"
        r"|needs it$|^S of the basis",
        "Give the files of the basis with which the runs were made (--basis, --basis-dir); --no-basis converts without them.",
    ),
    Cure(
        "a prediction is no density",
        r"within .* of a prediction",
        "The structure is unlike those that the model has learned, or the model has learned too little: slem-eval shows its errors, docs/training.md says what to change first.",
    ),
    Cure(
        "a check of the physics failed",
        r"^(finite numbers|[A-Z]+ Hermitian|[A-Z]+ pattern|S_ii|S two-centre|Tr\(DM S\)|eigenvalues|spin moment)|expected at most 1e-06|electrons in its levels|NaN or infinity|other numbers of orbitals",
        "The files do not belong together, are of a run that did not converge, or are damaged. The message has the number that was found and the one that was expected.",
    ),
    Cure(
        "the output holds something else",
        r"give another (name|folder|one)|exists; remove|resume it with --resume|start anew in another folder|the pieces of another|to resume from",
        "Nothing is written over. Give another name, go on with what is there (the same command, or --resume), or remove it yourself.",
    ),
    Cure(
        "prediction and run do not agree",
        r"than the matrices|needs matrices|is of another structure|other orbitals than the frame|of a run with the spin layout|of the same atoms and orbitals|of the atoms of the matrices"
        r"|where the matrices have none|different bases",
        "Predict the structure of the run that is to be started; atoms are matched by place, so their order does not matter and their places do.",
    ),
    Cure(
        "the number of electrons",
        r"--electrons",
        "Say how many electrons the cell has, with --electrons: pseudopotentials decide it, so a structure alone does not say it.",
    ),
    Cure(
        "a matrix is missing",
        r"^holds no (?!block)\S+( and no \S+)*$|bands need both|needs S and DM|needs H and S|has no H; |no matrices that this model",
        "slem-info lists the operators of a dataset or a model. S can come from a run (--overlap), or from radial functions (slem-overlap).",
    ),
    Cure(
        "no start can be made from it",
        r"is no start|cannot start|--route h|needs the (grid|k-points) of the run|--template|needs PySCF's molecule|pyscf_guess in its|is not where it was looked for|is a run of|one with S$",
        "docs/restart.md has a table of what each code can start from. The default start of the code is always there: slem-scf falls back to it.",
    ),
    Cure(
        "bands cannot be drawn",
        r"too many for bands|is no path|no occupied level|energy first|two energies|bands are compared|ending of a picture|Fermi level nor how many",
        "Bands need a lattice, occupied levels, and a frame of at most some thousand orbitals; larger ones have densities of states (slem-spectrum).",
    ),
    Cure(
        "a number or a name of the command line",
        r"there is no frame|data has frames|frame has atoms|has no structure \S+$|is no case|^(are|is|time is) \"|^are \S+ of \S+; expected",
        "Frames, atoms and structures are counted from 0; --help has examples.",
    ),
    Cure(
        "the configuration",
        r"has no key|is no TOML|^\S+ is [^;]*; expected|^channels: |^device is|leaves no frame|ranks need",
        "docs/training.md lists the keys with their defaults.",
    ),
    Cure(
        "too little memory, or a process died",
        r"ended (the|its) process|too little|matrices of at most",
        "Use fewer processes (-j, --workers), more --pieces, or give the job more memory; the system may have ended a process for its memory.",
    ),
    Cure(
        "something has to be installed or started",
        r"brings it|pip install|cannot reach a scheduler",
        "Install what the message names into the same environment; a scheduler of dask has to run at the address.",
    ),
    Cure(
        "the training failed",
        r"made the training fail|look at it with slem-check",
        "Look at the named frame with slem-check, or train with a lower rate.",
    ),
    Cure(
        "pieces disagree",
        r"disagrees with",
        "The folder of the pieces was changed while they were predicted. Remove it and run the same command again.",
    ),
    Cure(
        "the file is damaged, cut off, of other files than its neighbours, or of a version that we do not know",
        r"",
        "Copy the file again from where it was made, or rerun. If it is whole and of one run, tell us: --debug shows where reading stopped.",
    ),
)


def cure_of(message: str) -> str:
    """What to do about an error, by the reason that it gives."""
    return next(cure.cure for cure in CURES if re.search(cure.pattern, message))
