import sys

from palimpsest.cli import main
from palimpsest.settings import read_env_file

read_env_file()
sys.exit(main())
