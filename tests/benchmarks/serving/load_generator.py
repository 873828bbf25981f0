"""vLLM's own benchmarks with the command line they were given: ``python load_generator.py serve|throughput ARGUMENTS``.

Runs in vLLM's environment. Not by the script ``vllm bench``, which does not find its own metadata in the CPU rebuild.
"""

from __future__ import annotations

import asyncio
import sys

from vllm.utils.argparse_utils import FlexibleArgumentParser

if __name__ == "__main__":  # vLLM starts processes that import this file again
    which = sys.argv.pop(1)
    parser = FlexibleArgumentParser()
    if which == "serve":
        from vllm.benchmarks.serve import add_cli_args, main_async

        add_cli_args(parser)
        asyncio.run(main_async(parser.parse_args()))
    else:
        from vllm.benchmarks.throughput import add_cli_args, main

        add_cli_args(parser)
        main(parser.parse_args())
