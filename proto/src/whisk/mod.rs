//! OpenWhisk's messages and documents; each file names the Scala file that it mirrors.
