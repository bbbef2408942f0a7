"""How a model learns: lessons made from frames, the steps of a learner, and the loop around them."""

from slem_plugin.learning.learner import Learner
from slem_plugin.learning.lessons import Lessons

__all__ = ["Learner", "Lessons"]
