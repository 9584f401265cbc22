"""A plugin that takes the interpreter down when it does not like the machine."""

import sys

sys.exit("this processor has no AVX-512")
