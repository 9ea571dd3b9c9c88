"""Candidate sources: co-visitation, queries' clicks, text, vectors, popularity, profiles, new products, trends."""
