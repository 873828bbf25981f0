create or replace macro is_blank(content) as coalesce(not regexp_matches(content, '\S'), true);

-- Words are runs of letters and digits, case ignored: punctuation must not hide a copy.
create or replace macro words(content) as regexp_extract_all(lower(content), '[\p{L}\p{N}]+');
create or replace macro word_hashes(content) as list_transform(words(content), lambda word: hash(word));
