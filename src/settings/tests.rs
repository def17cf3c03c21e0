//! What the stages of the settings hold.
