"""A trained student as lm-evaluation-harness asks it; importing this needs lm-eval."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from lm_eval.api.model import TemplateLM

from palimpsest import tokenizer as tok
from training import export
from training.evaluate import batched
from training.loop import choose_device, choose_precision
from training.loss import chunks, token_cross_entropy


class Student(TemplateLM):
    """Log-likelihoods of answers by the model that `training.export.export` wrote into ``folder``.

    A text begins with the boundary, as every document did in training. Of one that does not fit the context the
    beginning is cut, and ``cut`` counts it. An answer that alone is longer is read in windows without overlap, as
    `training.evaluate` reads a document.
    """

    def __init__(self, folder: Path, precision: str, threads: int) -> None:
        super().__init__()
        torch.set_num_threads(threads)
        self._device = choose_device()
        self.dtype = choose_precision(precision, self._device)
        self.model = export.load(folder).to(self._device).eval()
        self.tokenizer = tok.load(folder / "tokenizer.json")
        self.cut = 0

    @property
    def eot_token_id(self) -> int:
        return self.tokenizer.token_to_id(tok.BOUNDARY)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: object) -> list[int]:
        ids = self.tokenizer.encode(string, add_special_tokens=False).ids
        return ids if add_special_tokens is False else [self.eot_token_id, *ids]

    def loglikelihood(self, requests: list, disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        return super().loglikelihood(requests, disable_tqdm)

    def _loglikelihood_tokens(self, requests: list, **_: object) -> list[tuple[float, bool]]:
        """Per (texts, question's ids, answer's ids): the answer's log-likelihood, and whether it is the likeliest."""
        context, windows, lengths = self.model.context, [], [len(answer) for *_, answer in requests]
        for (_, before, ids), end in zip(requests, np.cumsum(lengths), strict=True):
            self.cut += len(before) + len(ids) > context + 1
            room = -(-len(ids) // context) * context
            text = np.array([*before, *ids][-room - 1 :])
            place = np.full(len(text) - 1, -1)
            place[len(place) - len(ids) :] = np.arange(end - len(ids), end)
            cuts = [slice(start, start + context) for start in range(0, len(place), context)]
            windows += [(text[:-1][cut], text[1:][cut], place[cut]) for cut in cuts]
        nats, likeliest = np.zeros(sum(lengths)), np.zeros(sum(lengths), bool)
        for batch in batched(windows):
            place, *found = self._answered(*batch)
            nats[place], likeliest[place] = found
        owner = np.repeat(np.arange(len(requests)), lengths)
        missed = np.bincount(owner, ~likeliest, len(requests))
        return list(zip((-np.bincount(owner, nats, len(requests))).tolist(), (missed == 0).tolist(), strict=True))

    @torch.no_grad()
    def _answered(
        self, inputs: torch.Tensor, targets: torch.Tensor, place: torch.Tensor
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Places of the answers' tokens, their nats, and whether each is the likeliest; logits of these tokens only."""
        asked = place >= 0
        hidden = self.model.hidden(inputs.to(self._device), self.dtype)[asked.to(self._device)]
        targets, output = targets[asked].to(self._device), self.model.output.to(self.dtype)
        nats, likeliest = [], []
        for rows in chunks(len(targets), output):
            losses, probabilities = token_cross_entropy(hidden[rows], output, targets[rows])
            nats.append(losses.double().cpu())
            likeliest.append((probabilities.argmax(1) == targets[rows]).cpu())
        return place[asked].numpy(), torch.cat(nats).numpy(), torch.cat(likeliest).numpy()

    def loglikelihood_rolling(self, requests: list, disable_tqdm: bool = False) -> list[float]:
        raise NotImplementedError("losses of whole texts: name a set under validation.sets")

    def generate_until(self, requests: list, disable_tqdm: bool = False) -> list[str]:
        raise NotImplementedError("tasks are multiple choice")
