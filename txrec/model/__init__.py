"""The neural parts. One legend for all shapes:

    B  sequences of a batch      L  positions of a sequence     D  model width          H  attention heads
    K  candidates of a request   N  items of the catalogue      Q  distinct queries     Dt width of a text vector
    S  shared negatives          T  tokens of a text            M  positions with a target

Ids are int64 with 0 = PAD; masks are bool with True = real. Vectors that are compared are L2-normalised, so that a dot
product is a cosine; row 0 of any table of vectors is zeros.
"""
