"""Milliseconds per text of datatrove's Gopher repetition filter; runs in an environment of its own.

``python repetition.py TEXTS.json``: a list of texts; prints the least of several rounds.
"""

import json
import sys
import time
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.filters import GopherRepetitionFilter

texts = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
rule = GopherRepetitionFilter()
least = float("inf")
for _ in range(5):
    start = time.process_time()
    for text in texts:
        rule.filter(Document(text=text, id="0"))
    least = min(least, time.process_time() - start)
print(1000 * least / len(texts))
