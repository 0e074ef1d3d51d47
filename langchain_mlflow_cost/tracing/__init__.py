"""From LangChain's runs to MLflow's spans: what is recorded, priced, held back and released."""
