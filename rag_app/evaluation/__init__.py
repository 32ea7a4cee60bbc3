"""How good a pipeline is, whether another is better, and which stage lost an answer.

cases          questions and the spans that answer them; `checking` and `drafting` them
importers      the questions of published data sets as cases
projection     evidence on the documents and chunks that a config makes
metrics        of rankings; `spans`, of characters; `answers`, of answers; `judge`, a model's
run            a config on cases -> Evaluation: `measuring` each with a `recording` retriever
baseline       whether an evaluation is worse than an earlier one
significance   intervals, paired tests, the questions that would be needed
grid           lists of a config -> the configs they stand for; `ablations`, without a stage
compare        several configs on the same cases -> Comparison, on a `workbench`
behaviour      what changed between two configs, question by question
tune           the best config of a space, judged by cases it was not chosen by
why            the stage that lost the evidence, with proof -> Explanation
results        the values all of these return; `verdicts`, those of `why`; `storing`, as JSON
reports        the values as self-contained HTML; `plots`, as figures; `frames`, as pandas tables
"""
