"""The model: a strictly local equivariant network for H, S and DM. Its first part arrives with the training command."""
