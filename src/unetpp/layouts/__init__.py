"""Layouts of data sets on disk: from folders and tables to cases."""
