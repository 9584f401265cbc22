"""Mode ``split``: clients keep tokens, embedding, head and sampling, and send hidden states, which the server sees."""
