"""Tests to inherit: what a network or a code of your own must keep, and made-up data for them. They need pytest."""
