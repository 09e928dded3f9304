"""A second toy detector: the same layers at another size and input."""

from detectors.interface import InputConfig
from tests.toy import ToyConfig

OTHER = ToyConfig(width=12, input=InputConfig(size=(32, 32)))
