"""Language models as policies, judges and data. Every module is imported by its own name, and loads its heavy
libraries (`pip install 'rapport[lm]'`) when it is first used."""
