"""The expectations, each named and worded as a sentence; suites add the thresholds."""

from __future__ import annotations

from typing import Any, ClassVar

import pandas as pd

from expectations.rules import SHOWN, EveryRow, Unit

# ---------------------------------------------------------------- tables and row balances


class EveryTable(EveryRow):
    key: str = "table"
    maximum: float = 0


class TablesHaveTheirColumns(EveryTable):
    sentence = "Every table has the columns and types of its contract (columns missing or mistyped: {asked})"
    column: str = "wrong_columns"
    detail: str = "wrong"


class TablesHaveNoOtherColumns(EveryTable):
    sentence = "No table has columns beyond its contract"
    column: str = "other_columns"
    detail: str = "other"


class TablesHoldTheRowsTheirManifestStates(EveryTable):
    sentence = "Every table holds exactly the rows its manifest states (difference: {asked})"
    column: str = "row_difference"
    detail: str = "row_detail"
    minimum: float = 0


class EveryRowHasItsOwnKey(EveryTable):
    sentence = "No row lacks its key or repeats another's"
    column: str = "repeated_keys"
    detail: str = "keyed_by"


class RowBalancesAddUp(EveryRow):
    sentence = "Every row that came in is kept, dropped for a reason or quarantined for a cause (difference: {asked})"
    key: str = "balance"
    column: str = "difference"
    detail: str = "detail"
    minimum: float = 0
    maximum: float = 0


# ---------------------------------------------------------------- documents


class EveryCorpus(EveryRow):
    key: str = "corpus"


class CorpusHasDocuments(EveryCorpus):
    sentence = "The corpus has documents: {asked}"
    column: str = "documents"
    minimum: float = 1


class DocumentsHaveText(EveryCorpus):
    sentence = "No document is empty"
    column: str = "empty_texts"
    maximum: float = 0


class DocumentsAreInTheCorpusLanguage(EveryCorpus):
    sentence = "No document is in another language than the corpus"
    column: str = "foreign_documents"
    maximum: float = 0


class DocumentsDifferFromEachOther(EveryCorpus):
    sentence = "No document repeats the text of another"
    column: str = "repeated_texts"
    maximum: float = 0


class FewDocumentsAreShort(EveryCorpus):
    sentence = "95 of 100 documents have {asked} words"
    setting = "documents.min_words"
    column: str = "words_p05"


class FewDocumentsAreLong(EveryCorpus):
    sentence = "95 of 100 documents have {asked} words"
    setting = "documents.max_words"
    column: str = "words_p95"


class DropsHaveReasons(EveryCorpus):
    sentence = "Every dropped page names its reason (without: {asked})"
    column: str = "drops_without_reason"
    maximum: float = 0


# ---------------------------------------------------------------- generations


class EveryStrategy(EveryRow):
    key: str = "strategy"


class StrategiesHaveGenerations(EveryStrategy):
    sentence = "Every strategy of the study has generations: {asked}"
    column: str = "generations"
    minimum: float = 1


class GenerationsArePlanned(EveryStrategy):
    sentence = "No generation is of a document, strategy or sample that the study does not name"
    column: str = "unplanned"
    maximum: float = 0


class GenerationsAreNotOfValidationDocuments(EveryStrategy):
    sentence = "No generation was made from a validation document"
    column: str = "held_out"
    maximum: float = 0


class GenerationsHaveText(EveryStrategy):
    sentence = "No generation is empty"
    column: str = "empty_texts"
    maximum: float = 0


class GenerationsAreRarelyCutOff(EveryStrategy):
    sentence = "{asked} of a strategy's generations were cut off at their token limit"
    setting = "gates.max_truncated_share"
    column: str = "truncated_share"
    unit: Unit = "share"


class GenerationsRarelyRepeatEachOther(EveryStrategy):
    sentence = "{asked} of a strategy's generations repeat another one (case and spacing ignored)"
    setting = "gates.max_duplicate_share"
    column: str = "duplicate_share"
    unit: Unit = "share"


class GenerationsAreRarelyCopiesOfTheirSource(EveryStrategy):
    sentence = "{asked} of a written strategy's generations are near-copies of their source document"
    setting = "gates.max_near_copy_share"
    column: str = "near_copy_share"
    unit: Unit = "share"
    only: str = "is_written"


class GenerationsAreFaithfulToTheirSource(EveryStrategy):
    sentence = (
        "The names, numbers and terms of a strategy's generations are those of their sources: on average {asked} of 1"
    )
    setting = "gates.min_faithfulness"
    column: str = "faithfulness"
    unit: Unit = "ratio"
    only: str = "is_faithful_to"


class SourcesAreShownWhole(EveryStrategy):
    sentence = (
        "No generation was asked for with its source cut: some of it left out, or a sentence broken between chunks"
    )
    column: str = "input_truncated_share"
    unit: Unit = "share"
    maximum: float = 0


class FewGenerationsAreMuchShorterThanTheirSource(EveryStrategy):
    sentence = "95 of 100 generations have {asked} times the words of their source"
    setting = "gates.min_length_ratio"
    column: str = "length_ratio_p05"
    unit: Unit = "ratio"


class FewGenerationsAreMuchLongerThanTheirSource(EveryStrategy):
    sentence = "95 of 100 generations have {asked} times the words of their source"
    setting = "gates.max_length_ratio"
    column: str = "length_ratio_p95"
    unit: Unit = "ratio"


# ---------------------------------------------------------------- defects


class GenerationsAreRarelyDropped(EveryRow):
    sentence = "{asked} of a strategy's generations were dropped for any one defect"
    setting = "gates.max_dropped_share"
    key: str = "defect"
    column: str = "dropped_share"
    unit: Unit = "share"


# ---------------------------------------------------------------- megadocs


class EveryLayout(EveryRow):
    key: str = "layout"
    maximum: float | None = 0


class LayoutsHaveMegadocs(EveryLayout):
    sentence = "Every layout of the study has megadocs: {asked}"
    column: str = "megadocs"
    minimum: float = 1
    maximum: float | None = None


class MegadocsHaveText(EveryLayout):
    sentence = "No megadoc is empty"
    column: str = "empty_megadocs"


class MegadocsEqualTheirParts(EveryLayout):
    sentence = "Every megadoc has the tokens of its parts, real and synthetic (unlike: {asked})"
    column: str = "unlike_their_parts"


class MegadocsStandInOneOrder(EveryLayout):
    sentence = "The megadocs of a layout stand in one order without gaps (gaps: {asked})"
    column: str = "gaps"


class LayoutsHoldEveryGeneration(EveryLayout):
    sentence = "Every layout holds each generation of its strategy once (missing: {asked})"
    column: str = "generations_missing"
    minimum: float = 0


class LayoutsHoldEveryDocument(EveryLayout):
    sentence = "Every layout with real text holds each training document (missing: {asked})"
    column: str = "documents_missing"
    minimum: float = 0


class MegadocsAreOfTrainingDocuments(EveryLayout):
    sentence = "No megadoc part belongs to a document outside the study's training documents"
    column: str = "stray_parts"


class MegadocsHoldNoValidationDocument(EveryLayout):
    sentence = "No megadoc part belongs to a validation document"
    column: str = "held_out"


class MegadocsShareNoTextWithValidation(EveryLayout):
    sentence = "No megadoc part shares a long run of words with a validation document"
    column: str = "leaked_parts"
    detail: str = "leak"


# ---------------------------------------------------------------- mixes


class EveryRecipe(EveryRow):
    key: str = "recipe"


class RecipesHaveRealText(EveryRecipe):
    sentence = "Every recipe trains on the stream of real documents: {asked} stream"
    column: str = "real_streams"
    minimum: float = 1


class MixesHaveEnoughRealText(EveryRecipe):
    sentence = "Every mix draws on {asked} tokens of real documents"
    setting = "gates.min_real_tokens"
    column: str = "real_tokens"
    only: str = "is_mix"


class MixesAreNotTooSynthetic(EveryRecipe):
    sentence = "{asked} of the tokens a recipe trains on are synthetic"
    setting = "gates.max_synthetic_share"
    column: str = "synthetic_share"
    unit: Unit = "share"


class StreamsAreUsed(EveryRecipe):
    sentence = "No stream with a share in a recipe goes unused"
    column: str = "unused_streams"
    maximum: float = 0


class StreamsHoldTheTokensTheMixStates(EveryRecipe):
    sentence = "Every stream holds the tokens its mix states (difference: {asked})"
    column: str = "token_difference"
    maximum: float = 0


class StreamsAddUpToTheRecipe(EveryRecipe):
    sentence = "The sequences of a recipe's streams add up to the recipe (difference: {asked})"
    column: str = "sequence_difference"
    minimum: float = 0
    maximum: float = 0


# ---------------------------------------------------------------- the collapse guard


class EveryVerdict(EveryRow):
    """One gate of the guard: none of its verdicts breaks it. What was observed is said in the verdicts' own words."""

    gate: ClassVar[str] = ""
    setting = "guard"
    key: str = "subject"
    column: str = "blocks"
    maximum: float = 0
    detail: str = "sentence"
    only: str | None = None

    def _validate(self, metrics: dict, runtime_configuration=None, execution_engine=None) -> dict[str, Any]:
        profile: pd.DataFrame = metrics["table.profile"]
        own = profile[profile["gate"] == self.gate]
        bad = own[own[self.column] > 0]
        said = list(bad["sentence"] if len(bad) else own["sentence"])
        more = f" · and {len(said) - SHOWN} more" if len(said) > SHOWN else ""
        return {
            "success": bad.empty,
            "result": {
                "observed_value": " · ".join(said[:SHOWN]) + more or "nothing to judge",
                "rows": len(own),
                "bad_rows": len(bad),
            },
        }


class TextsSayWhereTheyComeFrom(EveryVerdict):
    gate = "G1"
    sentence = "Every text says where it comes from, and none is its own ancestor (breaches: {asked})"


class EnoughIsWrittenByPeople(EveryVerdict):
    gate = "G2"
    sentence = "Enough of what is trained on was written by people, overall and in every domain (breaches: {asked})"


class RealTextIsNotReplaced(EveryVerdict):
    gate = "G3"
    sentence = "Real text is added to, not replaced (breaches: {asked})"


class OriginsAreDrawnApart(EveryVerdict):
    gate = "G4"
    sentence = "Real and synthetic text are drawn apart, each in its planned share (breaches: {asked})"


class FewModelsLieBetweenTextAndPeople(EveryVerdict):
    gate = "G5"
    sentence = "Few models lie between a text and people, and each learned from a mix that passed (breaches: {asked})"


class TextIsDrawnWithItsTail(EveryVerdict):
    gate = "G6"
    sentence = "Generated text is drawn near the model's own distribution, not at its mode (breaches: {asked})"


class RealTextIsPredictedAsWell(EveryVerdict):
    gate = "G7"
    sentence = "Real and synthetic text together predict new real text as well as real text alone (breaches: {asked})"


class RareWordsAreKept(EveryVerdict):
    gate = "G8"
    sentence = "Generated text keeps the rare words that sampling alone would keep (breaches: {asked})"


class DiversityIsThatOfRealText(EveryVerdict):
    gate = "G9"
    sentence = "Generated text is as diverse as real text, neither less nor more (breaches: {asked})"


class GeneratedTextIsNew(EveryVerdict):
    gate = "G10"
    sentence = "Generated text repeats neither itself nor real text, and no held-out text (breaches: {asked})"


class VerifierBeatsChance(EveryVerdict):
    gate = "G11"
    sentence = "What decides on generated text selects better than chance (breaches: {asked})"


class TextDeclaredAlikeIsAlike(EveryVerdict):
    gate = "C2ST"
    sentence = "No classifier tells text from real text that is declared to be like it (breaches: {asked})"


class TextLiesNearRealText(EveryVerdict):
    gate = "MMD"
    sentence = "Generated text lies about as far from real text as its halves from each other (breaches: {asked})"


class ChoosingLeadsToRealText(EveryVerdict):
    gate = "ALIGN"
    sentence = "What an aligned layout keeps counts for much, and lies no farther from real text (breaches: {asked})"


class UnknownTextIsScored(EveryVerdict):
    gate = "ORIGIN"
    sentence = "A detector says which documents of unknown origin look generated (breaches: {asked})"


GUARD = (
    TextsSayWhereTheyComeFrom,
    EnoughIsWrittenByPeople,
    RealTextIsNotReplaced,
    OriginsAreDrawnApart,
    FewModelsLieBetweenTextAndPeople,
    TextIsDrawnWithItsTail,
    RealTextIsPredictedAsWell,
    RareWordsAreKept,
    DiversityIsThatOfRealText,
    GeneratedTextIsNew,
    VerifierBeatsChance,
    TextDeclaredAlikeIsAlike,
    TextLiesNearRealText,
    ChoosingLeadsToRealText,
    UnknownTextIsScored,
)
