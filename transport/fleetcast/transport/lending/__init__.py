"""Lending (ADR 0012): the one node that has everything hands each piece to one receiver, and they exchange the pieces.

`lender` decides who is handed what, over values; `desk` keeps one lender per artifact for the file server. The other
side, which borrows, is `bittorrent.borrowing`.
"""
