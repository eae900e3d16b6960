"""A study's answers as files for others, and back: JSON lines, Parquet, a Hugging Face dataset folder."""
