"""Questions over many datasets: read and checked, brought to their normal form, and composed over merged views.

catalogue    the datasets and the accepted joins that a caller can ask about
model        a question as the wire has it
reading      what is asked, held against the catalogue
grain        which aggregates may be taken beside which joins
composing    the statement
"""
