"""Which expectations each gate holds: critical unless said otherwise, thresholds from the corpus or study file."""

from __future__ import annotations

from expectations import sentences as s
from expectations.rules import EveryRow
from palimpsest.config import Corpus, Study

Suites = dict[str, list[EveryRow]]
"""Suite name → expectations; the profile of the same name is what they judge."""


def tables() -> list[EveryRow]:
    return [
        s.TablesHaveTheirColumns(),
        s.TablesHaveNoOtherColumns(severity="warning"),
        s.TablesHoldTheRowsTheirManifestStates(),
        s.EveryRowHasItsOwnKey(),
    ]


def balances() -> list[EveryRow]:
    return [s.RowBalancesAddUp()]


def documents(corpus: Corpus) -> list[EveryRow]:
    """What a rule of dbt's was to ensure is asked for only where the corpus file leaves that rule on."""
    rules = corpus.documents
    ensured = {
        "gopher_quality.min_words": s.FewDocumentsAreShort(minimum=rules.min_words),
        "gopher_quality.max_words": s.FewDocumentsAreLong(maximum=rules.max_words),
        "language.expected": s.DocumentsAreInTheCorpusLanguage(),
        "duplicates.exact": s.DocumentsDifferFromEachOther(),
    }
    return [
        s.CorpusHasDocuments(),
        s.DocumentsHaveText(),
        s.DropsHaveReasons(),
        *(expectation for rule, expectation in ensured.items() if rules.is_on(rule)),
    ]


def study(study: Study) -> Suites:
    gates = study.gates
    suites = {
        "generations": [
            s.StrategiesHaveGenerations(),
            s.GenerationsArePlanned(),
            s.GenerationsAreNotOfValidationDocuments(),
            s.GenerationsHaveText(),
            s.GenerationsAreRarelyCutOff(maximum=gates.max_truncated_share),
            s.GenerationsRarelyRepeatEachOther(maximum=gates.max_duplicate_share),
            s.GenerationsAreRarelyCopiesOfTheirSource(maximum=gates.max_near_copy_share),
            s.GenerationsAreFaithfulToTheirSource(minimum=gates.min_faithfulness),
            s.SourcesAreShownWhole(severity="warning"),
            s.FewGenerationsAreMuchShorterThanTheirSource(minimum=gates.min_length_ratio, severity="warning"),
            s.FewGenerationsAreMuchLongerThanTheirSource(maximum=gates.max_length_ratio, severity="warning"),
        ],
        "defects": [s.GenerationsAreRarelyDropped(maximum=gates.max_dropped_share)],
        "megadocs": [
            s.LayoutsHaveMegadocs(),
            s.MegadocsHaveText(),
            s.MegadocsEqualTheirParts(),
            s.MegadocsStandInOneOrder(),
            s.LayoutsHoldEveryGeneration(),
            s.LayoutsHoldEveryDocument(),
            s.MegadocsAreOfTrainingDocuments(),
            s.MegadocsHoldNoValidationDocument(),
            s.MegadocsShareNoTextWithValidation(),
        ],
        "mixes": [
            s.RecipesHaveRealText(),
            s.MixesHaveEnoughRealText(minimum=gates.min_real_tokens),
            s.MixesAreNotTooSynthetic(maximum=gates.max_synthetic_share),
            s.StreamsAreUsed(),
            s.StreamsHoldTheTokensTheMixStates(),
            s.StreamsAddUpToTheRecipe(),
        ],
    }
    if not study.strategies:
        del suites["generations"]
    if all(strategy.kind == "augment" for strategy in study.strategies.values()):
        del suites["defects"]
    return suites


def guard(gates: set[str]) -> list[EveryRow]:
    """The guard's gates that have a verdict: each must not be broken, and says so where it warns."""
    asked = [rule for rule in s.GUARD if rule.gate in gates]
    return [*(rule() for rule in asked), *(rule(column="warns", severity="warning") for rule in asked)]
