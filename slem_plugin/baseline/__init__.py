"""The closed-form part of a model: two-centre and crystal-field functions of distance, fitted by least squares."""

from slem_plugin.baseline.baseline import Baseline

__all__ = ["Baseline"]
