"""Files that other people's tools open: matrices in real space and at k-points, tight-binding models of orthogonal orbitals."""
