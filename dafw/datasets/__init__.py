"""The data sets: one file a family; its name is what you type after `src=` or `tgt=`."""
