"""Names and sources that entries of several files give."""

PLAIN, TRANSFER, NOVEL_TOKENS = "plain", "transfer", "novel-tokens"
THESEUS, WEIGHT_TRANSPORT, LATEN = "theseus", "weight-transport", "laten"

CRITICISM = "after LaTen's criticism of SeeKing (arXiv 2505.14436)"

OWN = "student"
"""``Method.replacement`` of a control whose teacher is the student itself."""
