"""Names and sources that entries of several files give."""

PLAIN, TRANSFER, NOVEL_TOKENS = "plain", "transfer", "novel-tokens"

CRITICISM = "after LaTen's criticism of SeeKing (arXiv 2505.14436)"
