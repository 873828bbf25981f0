"""The guard's limits: one value per key, each with the evidence for it; a study or a calibration may set others.

The defaults of G7 to G9 come from one small technical-English corpus and small models: calibrate each corpus
(``python -m palimpsest guard calibrate``). No published ratio holds across grounded and free generation, depth and
scale: take G2 as policy, G7 and G8 as evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Above = Annotated[float, Field(gt=0)]


class Thresholds(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    provenance_min: Share = 1.0
    """G1: share of rows whose provenance is complete; every other gate needs origin and depth."""

    synthetic_grounded_max: Share = 0.33
    """G2: rewritten from real documents by a generator from outside. A third is where rephrases pay most (Kang et al.
    2025, 2510.01631)."""
    synthetic_grounded_swept_max: Share = 0.70
    """G2: the same, with a sweep over formats attached (FinePhrase 2026, 2604.13977: best at 60 to 80%)."""
    synthetic_free_max: Share = 0.20
    """G2: generated from a prompt alone by a generator from outside (Du et al. 2025, 2510.05133)."""
    real_self_consuming_min: Share = 0.50
    """G2: a generator trained on this platform's corpora, or depth >= 2 (Garg et al. 2025, 2509.22341: 0.5 to 0.62)."""
    real_min: Annotated[float, Field(ge=0.10, le=1)] = 0.10
    """G2: under any waiver; cannot be set lower (Shumailov et al. 2024: a tenth merely slows collapse)."""

    real_shrink_max: Share = 0.02
    """G3: real tokens of a domain that may go between versions without tombstones (accumulate, never replace:
    Gerstgrasser et al. 2024, 2404.01413)."""
    stratified: bool = True
    """G4: a fixed budget draws real and synthetic apart; a plain draw from the pool leaves 1/(g+1) real after g
    generations (Kazdan et al. 2024, 2410.16713)."""
    depth_max: Annotated[int, Field(ge=0)] = 1
    """G5: generations between a text and people."""
    depth_waived_max: Annotated[int, Field(ge=0)] = 2
    """G5: the same under a waiver."""
    temperature_min: Annotated[float, Field(ge=0)] = 0.9
    """G6: text for the corpus; lower ones seek the mode (Drayson et al. 2025, 2502.15654)."""
    top_p_min: Share = 0.9
    """G6: top-p cuts the tail (Dohmatob et al. 2024, 2402.07043)."""
    top_k_min: Annotated[int, Field(ge=1)] = 640
    """G6: top-k where it is on, for it cuts the tail as well. Our own choice: of the two cut-offs that Holtzman et al.
    2020 (1904.09751) compare, 40 and 640, the one that cuts less; no paper known here derives a limit for a corpus."""
    min_p_max: Share = 0.05
    """G6: min-p cuts the tail wherever one word is likely. Our own choice, the default of llama.cpp's sampler; Nguyen
    et al. 2024 (2407.01082) judge single answers at high temperatures, not what a corpus of them loses."""

    probe_ngram_max: Above = 1.10
    """G7: perplexity on held-out real text of a trigram of real + synthetic, over that of real alone."""
    probe_lm_max: Above = 1.05
    """G7: the same with a neural probe."""
    probe_domain_max: Above = 1.10
    """G7: the same in the worst domain."""
    tail_full_min: Share = 0.90
    """G8: rare words that a synthetic set as large as its source keeps, over those that sampling alone would keep."""
    tail_sample_warn: Share = 0.90
    """G8: of a smaller set, over those in real text of as many tokens."""
    tail_sample_fail: Share = 0.75
    entropy_z_max: Above = 6.0
    """G9: deviations from the real-against-real mean, on either side."""
    compression_z_max: Above = 6.0
    """G9: a warning; it crosses the null while a model dies."""
    distinct_z_max: Above = 6.0
    """G9: a warning; it rises under noisy sampling."""
    near_duplicate_max: Share = 0.05
    """G10: synthetic documents that nearly equal an earlier synthetic one."""
    near_duplicate_real_max: Share = 0.02
    """G10: synthetic documents that nearly equal a real one."""
    held_out_runs_max: Annotated[int, Field(ge=0)] = 0
    """G10: documents that share a run of 13 words with a held-out text."""
    verifier_gain_min: float = 0.0
    """G11: mean gain over random selection must lie above it (Feng et al. 2024, 2406.07515)."""
    verifier_p_max: Share = 0.05
    verifier_dropped_min: Share = 0.05
    """G11: of the text it was shown, what a verifier must drop for its choice to differ from a random one by more
    than noise. Our own choice; a review that drops a few refusals selects nothing."""
    verifier_precision_min: Share = 0.9
    """G11: of what the verifier accepted, the share that an audit found good."""
    verifier_audited_min: Annotated[int, Field(ge=1)] = 200

    classifier_auc_max: Annotated[float, Field(gt=0.5, le=1)] = 0.95
    """C2ST: fails only data declared in-distribution; rephrases are supposed to be told apart."""
    mmd_warn: Above = 10.0
    """MMD, in multiples of the real-against-real mean: a warning from here."""
    mmd_alarm: Above = 30.0
    aligned_effective_min: Share = 0.1
    """ALIGN, a warning: effective sample size of an aligned stream's weights over its texts; below it a few texts stand
    for all. It is 1 / clip at least."""
    aligned_farther_max: Annotated[float, Field(ge=0)] = 2.0
    """ALIGN, a warning: by how many deviations of the real-against-real null the AUC may be higher than that of as many
    texts at random: choosing must not lead away from real text."""

    def override(self, changes: Mapping[str, object]) -> Thresholds:
        """These with other values for some keys; a `ValueError` names a key that does not exist."""
        return Thresholds.model_validate({**self.model_dump(), **changes})


DEFAULTS = Thresholds()
