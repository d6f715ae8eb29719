"""Networks that a .tflite file computes, for LiteRT's interpreter (once TensorFlow Lite).

A file brings the computation, never the weights of a round: those travel as named arrays, as for
every model, and go into each call and come out of it. A file is the owner's, who puts it on each
device and, where the coordinator needs it, there; none is ever taken from a peer.

Three signatures, float32 throughout but for `y`; `*` stands for the weights, which have the same
names and shapes everywhere:

| signature | inputs | outputs |
|---|---|---|
| `train` | `x` (n, f), `y` (n,) int32, `share` (n,), `rate` (), `*` | `*` after one step |
| `infer` | `x` (n, f), `*` | `probabilities` (n, classes) |
| `weights` | | `*` before the first round |

A step is w - rate * gradient of the sum over samples of share * cross-entropy; `share` is 1 / n, or
0 in rows that only fill a batch. n is free, or one number in a file that takes so many at once.
`x` is standardised already: see `networks.standardise`.

A weight's name has small letters, digits and at least one underscore, the last of which becomes the
point in the name of the model's array: `layer1_weight` is `layer1.weight`.
"""

from fedring.shared.litert.computation import Computation
from fedring.shared.litert.shipped import SHIPPED

__all__ = ["SHIPPED", "Computation"]
