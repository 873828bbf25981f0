-- Words are runs of letters and digits, case ignored: punctuation must not hide a copy.
create or replace macro words(content) as regexp_extract_all(lower(content), '[\p{L}\p{N}]+');

create or replace macro is_blank(content) as coalesce(not regexp_matches(content, '\S'), true);

-- Hashes of every run of n words; a text shorter than n words has none.
create or replace macro word_runs(list_of_words, n) as
    list_transform(
        range(0, greatest(len(list_of_words) - n + 1, 0)),
        lambda start: hash(list_slice(list_of_words, start + 1, start + n))
    );
