"""OpenAI's API on loopback, whose answers come from a model with an encrypted adapter. The client of that is here."""
