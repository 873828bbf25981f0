{#-
  The rules of datatrove's Gopher, C4 and FineWeb filters by its own figures (plugins/palimpsest/ingest/datatrove.py), in
  the order of page_rules: what needs no language first, then the language, then what knows English words.
  Each: name, reason, measured value, bound 'min' or 'max', threshold.
-#}
{%- macro datatrove_rules() -%}
  {%- set rules = [
    ('gopher_quality.min_words', 'too_short', 'datatrove_words', 'min', 'min_words'),
    ('gopher_quality.max_words', 'too_long', 'datatrove_words', 'max', 'max_words'),
    ('gopher_quality.hashes', 'symbol_noise', 'datatrove_hashes', 'max', 'max_symbol_ratio'),
    ('gopher_quality.ellipses', 'symbol_noise', 'datatrove_ellipses', 'max', 'max_symbol_ratio'),
    ('gopher_quality.alphabetic_words', 'symbol_noise', 'datatrove_alphabetic_words', 'min', 'min_alphabetic_words'),
    ('c4.lorem_ipsum', 'lorem_ipsum', 'datatrove_lorem_ipsum_lines', 'max', 'max_lorem_ipsum'),
    ('c4.curly_brackets', 'source_code', 'datatrove_curly_bracket_lines', 'max', 'max_curly_bracket_lines'),
  ] -%}
  {%- for figure in ['duplicate_lines', 'duplicate_line_characters', 'duplicate_paragraphs',
    'duplicate_paragraph_characters', 'top_2gram', 'top_3gram', 'top_4gram', 'duplicate_5grams', 'duplicate_6grams',
    'duplicate_7grams', 'duplicate_8grams', 'duplicate_9grams', 'duplicate_10grams'] -%}
    {%- do rules.append(
      ('gopher_repetition.' ~ figure, 'repetition_spam', 'datatrove_' ~ figure, 'max', 'max_' ~ figure)) -%}
  {%- endfor -%}
  {%- do rules.extend([
    ('fineweb.duplicate_characters', 'repetition_spam', 'datatrove_duplicate_characters', 'max',
      'max_duplicate_characters'),
    ('fineweb.lines_punctuated', 'link_farm', 'datatrove_lines_punctuated', 'min', 'min_lines_punctuated'),
    ('fineweb.short_lines', 'link_farm', 'datatrove_short_lines', 'max', 'max_short_lines'),
    ('fineweb.newlines_per_word', 'link_farm', 'datatrove_newlines_per_word', 'max', 'max_newlines_per_word'),
    ('gopher_quality.bullet_lines', 'link_farm', 'datatrove_bullet_lines', 'max', 'max_bullet_lines'),
    ('gopher_quality.ellipsis_lines', 'cut_off_lines', 'datatrove_ellipsis_lines', 'max', 'max_ellipsis_lines'),
    language_rule(),
    ('gopher_quality.min_mean_word_length', 'symbol_noise', 'datatrove_mean_word_length', 'min',
      'min_mean_word_length'),
    ('gopher_quality.max_mean_word_length', 'symbol_noise', 'datatrove_mean_word_length', 'max',
      'max_mean_word_length'),
    ('gopher_quality.stop_words', 'no_prose', 'datatrove_stop_words', 'min', 'min_stop_words'),
    ('c4.sentences', 'no_prose', 'datatrove_sentences', 'min', 'min_sentences'),
  ]) -%}
  {{ return(rules) }}
{%- endmacro -%}

{#- The columns that these rules look at, where the corpus asks for them. -#}
{%- macro datatrove_figures() -%}
  {%- set found = [] -%}
  {%- for rule in datatrove_rules() if threshold('definitions') == 'datatrove' and rule[2].startswith('datatrove_') -%}
    {%- do found.append(rule[2]) -%}
  {%- endfor -%}
  {{ return(found | unique | list) }}
{%- endmacro -%}
