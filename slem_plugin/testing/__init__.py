"""Tests to inherit: what a network (`networks`) or a code (`codes`) of your own must keep, damage to its files, and made-up data. They need pytest."""
