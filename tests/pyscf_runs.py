"""Runs of PySCF that tests make."""

from pyscf import gto, scf


def finished(mol, chkfile=None):
    """A run of PySCF, which keeps a temporary file open that it does not close by itself."""
    mf = scf.RHF(mol)
    if chkfile is not None:
        mf.chkfile = str(chkfile)
    mf.kernel()
    mf._chkfile.close()
    return mf


def hydrogen_runs(folder, count, basis="def2-tzvp"):
    """Folders with runs of four hydrogen atoms."""
    for n in range(count):
        run = folder / f"h{n}"
        run.mkdir(parents=True)
        bond = 0.7 + 0.05 * n
        atoms = f"H 0 0 0; H 0 0 {bond}; H 0.2 {0.9 + bond} 0; H 1.4 0 {bond}"
        finished(gto.M(atom=atoms, basis=basis, verbose=0), run / "run.chk")
    return folder
