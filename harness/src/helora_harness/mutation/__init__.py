"""Changes core's sources one small step at a time and says which changes no test notices."""
