"""How good a pipeline is, whether another is better, and which stage lost an answer.

cases          questions with the spans of documents that answer them
projection     those spans on the chunks of whatever config is measured
metrics        of rankings; `spans`, of characters; `answers`, of answers
run            a config on cases -> Evaluation
significance   intervals, paired tests, the questions that would be needed
grid           lists and ranges of a config -> the configs they stand for
compare        several configs on the same cases -> Comparison
tune           the best config of a space, judged by cases it was not chosen by
why            the stage that lost the evidence, with proof
results        the values all of these return
reports        those as self-contained HTML; `plots`, as figures
"""
