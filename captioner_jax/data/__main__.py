"""Data sets from the command line.

python -m captioner_jax.data check FOLDER                      reads everything and says what is wrong with it
python -m captioner_jax.data prepare flickr8k --path FOLDER    makes a TensorFlow Datasets data set of it
"""

import sys

from captioner_jax.data.command import main
from captioner_jax.errors import leave

if __name__ == "__main__":
    leave(main(sys.argv[1:]))
