"""The science in plain torch and Python: knows neither Prefect nor the store."""
