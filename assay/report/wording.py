"""The names of the metrics that the report explains, and what each says."""

PROFILED = {
    "rows": "rows after cleaning",
    "normalised_label_entropy": "balance of the labels (entropy; 1 is even)",
    "characters": "characters a text: 5%, median, 95%",
    "words": "words a text: 5%, median, 95%",
    "tokens": "tokens a text: 5%, median, 95%",
    "vocabulary.types": "different words",
    "vocabulary.distinct_1": "distinct-1, share of words not seen before (same number of words each)",
    "vocabulary.distinct_2": "distinct-2, the same of pairs of words",
    "spread.pairwise_distance": "spread: mean cosine distance of two texts",
    "centroid_cosine": "relevance: cosine of its centroid and that of all",
    "outlier_share": "share of outliers: texts that are similar to no other",
    "authenticity.real": "real rows",
    "authenticity.generated": "generated rows",
    "authenticity.augmented": "augmented rows (train)",
}
"""Metrics of the profile that the report shows, and what they are called."""
AGREEMENT = {
    "fleiss_kappa": (
        "Fleiss' kappa",
        "How far raters agree on a label beyond chance, each row counting once: 0 is chance, 1 is full agreement.",
    ),
    "krippendorff_alpha_nominal": (
        "Krippendorff's alpha, labels",
        "The same question, each rating counting once. Above 0.8 is called reliable, below 0.667 not even tentative.",
    ),
    "krippendorff_alpha_interval": (
        "Krippendorff's alpha, ratings as numbers",
        "As above, but two raters who are one point apart disagree less than two who are five apart.",
    ),
    "krippendorff_alpha_ordinal": (
        "Krippendorff's alpha, labels in order",
        "As for labels, but neighbouring labels are less far apart.",
    ),
    "single_rater_accuracy": (
        "Single rater against the others",
        "How often one rater gives the label that most of the row's other raters give.",
    ),
    "single_rater_accuracy_against_reference": (
        "Single rater against the reference",
        "How often one rater gives the reference label: about what a model trained on single ratings is taught.",
    ),
    "label_agrees_with_reference": (
        "Given label against the reference",
        "Share of rows whose given label is the reference label; the rest is label noise.",
    ),
    "consensus_agrees_with_reference": (
        "Consensus against the reference",
        "Share of rows on which the most frequent label is the reference label.",
    ),
}
RATERS = {
    "one_rater": "one rater, against the label",
    "half_of_raters": "half of the raters, against the other half",
}
GRADES = {
    "grade.noise_rate": ("Label noise", "Share of the train rows whose given label is not the reference label."),
    "grade.without_evidence.average_precision": ("Average precision, texts alone", "Of the order of review, 0 to 1."),
    "grade.baselines.random.average_precision": ("… of a random order", "Nothing is known."),
    "grade.baselines.label_error_rate.average_precision": ("… by the label's error rate", "That of validation rows."),
    "grade.differences.without_evidence_minus_label_error_rate.average_precision": ("What the texts bring", "Paired."),
    "grade.label_quality.average_precision": (
        "Average precision of the detector",
        "As it is used: with what `label_errors.evidence` names, such as the rating that the label was made of.",
    ),
    "grade.baselines.evidence_magnitude.average_precision": ("… by |rating|", "Or what the evidence is; 0 first."),
    "grade.baselines.evidence_error_rate.average_precision": ("… by the rating's error rate", "No text is read."),
    "grade.differences.label_quality_minus_evidence_error_rate.average_precision": (
        "What texts bring to it",
        "Paired.",
    ),
    "grade.differences.label_quality_minus_label_error_rate.average_precision": ("What the texts bring", "Paired."),
    "grade.label_quality.auroc": ("AUROC", "Chance that a wrong row comes before a right one; 0.5 is random."),
    "grade.label_quality.precision_at_5pct": (
        "Precision of the 5% trusted least",
        "What a reviewer of them finds wrong.",
    ),
    "grade.label_quality.recall_at_5pct": ("Recall of the 5% trusted least", "How much of what is wrong they find."),
    "grade.precision": ("Precision", "Of the rows flagged, the share whose label is indeed wrong."),
    "grade.recall": ("Recall", "Of the rows whose label is wrong, the share flagged."),
    "noise_rate_of_kept_rows": ("Label noise of the rows kept", "The first of these again, after this stage."),
    "out_of_fold_text_accuracy": (
        "Given label named from the text alone",
        "Out of fold; given labels have that noise.",
    ),
}
EFFECTS = {
    "uncorrected.macro_f1": ("Labels as they were given", "Macro-F1 of a linear probe on the validation rows."),
    "detector_off.macro_f1": ("The detector's action off", "The same probe, on the labels after people's corrections."),
    "detector_on.macro_f1": ("The detector's action on", "The same, after label_errors."),
    "flagged_dropped.macro_f1": ("Flagged rows dropped", "The same, without them, whatever the action is."),
    "oracle.macro_f1": (
        "Oracle",
        "The same, on the reference labels of the train rows: the most that a detector could bring.",
    ),
    "detector_off_minus_uncorrected.macro_f1": ("What corrections bring", "The difference, paired on rows."),
    "detector_on_minus_detector_off.macro_f1": ("What the action brings", "The difference, paired on rows."),
    "flagged_dropped_minus_detector_off.macro_f1": ("What dropping them brings", "The difference, paired on rows."),
    "oracle_minus_detector_off.macro_f1": ("What right labels would bring", "The difference, paired on rows."),
}
SHOWN_REMOVALS = (
    *("min_characters", "max_characters", "max_tokens", "language"),
    *("conflicting_label", "exact_duplicate", "near_duplicate"),
)
"""Rules that remove rows once they are clean; what others removed may hold personal data, and is only counted."""
