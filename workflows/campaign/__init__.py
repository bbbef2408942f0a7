"""Campaigns: many SCF runs of one kind with the user's own code, of which the first teach the model that starts the rest."""
