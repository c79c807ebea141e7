"""A DICOM node: images come by C-STORE, answers stand on the disk and go to an archive."""
