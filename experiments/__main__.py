"""All of them beside the captioner as it is: python -m experiments [--steps N] [--seeds 0 1 2]"""

import sys

from experiments.comparing import compare
from experiments.gated_cross_attention import GatedCaptioner
from experiments.multi_query import MultiQueryCaptioner
from experiments.relative_positions import RelativeCaptioner

sys.exit(compare([RelativeCaptioner, MultiQueryCaptioner, GatedCaptioner], sys.argv[1:]))
