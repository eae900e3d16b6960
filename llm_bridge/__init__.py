"""Language models as policies, judges and writers of preferences, on the same core as everything that acts."""
