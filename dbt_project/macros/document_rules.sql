{#- A threshold of the corpus file (palimpsest.config.DocumentRules); there is none yet while the project is parsed. -#}
{%- macro threshold(name) -%}
  {{ return(var('rules')[name] if execute else 0) }}
{%- endmacro -%}

{#- Rules the corpus file switches off. -#}
{%- macro disabled_rules() -%}
  {{ return(var('rules')['disabled'] if execute else []) }}
{%- endmacro -%}

{%- macro enabled_rule(name) -%}
  {{ return(name not in disabled_rules() and 'all' not in disabled_rules()) }}
{%- endmacro -%}

{#-
  The rules that look at one page, in the order they are tried; the first that fails is the page's reason.
  Each: name, reason, measured value, bound 'min' or 'max', threshold.
-#}
{%- macro page_rules() -%}
  {%- set datatrove = threshold('definitions') == 'datatrove' -%}
  {%- set rules = datatrove_rules() if datatrove else palimpsest_rules() -%}
  {%- set english = [] if datatrove else ['gopher_quality.stop_words', 'c4.policy_lines', 'c4.sentences'] -%}
  {%- set elsewhere = ['all'] + english + ['duplicates.exact', 'duplicates.near'] -%}
  {%- set known = (rules | map('first') | list + elsewhere) | unique | list -%}
  {%- for name in disabled_rules() -%}
    {%- if name not in known -%}
      {{ exceptions.raise_compiler_error(
        "documents.disabled: '" ~ name ~ "' is no rule; the rules are " ~ known | join(', ')) }}
    {%- endif -%}
  {%- endfor -%}
  {%- set kept = [] -%}
  {%- for rule in rules if enabled_rule(rule[0]) -%}
    {%- do kept.append({'name': rule[0], 'reason': rule[1], 'value': rule[2], 'bound': rule[3],
      'threshold': threshold(rule[4])}) -%}
  {%- endfor -%}
  {{ return(kept) }}
{%- endmacro -%}

{#- The language the corpus is to be in; what any other page is called. -#}
{%- macro language_rule() -%}
  {%- set language = threshold('language') -%}
  {{ return(('language.expected', 'non_english' if language == 'en' else 'other_language',
    "case when language = " ~ quoted(language) ~ " then language_score else 0 end", 'min', 'min_language_score')) }}
{%- endmacro -%}

{#-
  The rules by the project's own figures (plugins/palimpsest/ingest/scores.py).
  Rules that need no language come first (length, symbols, placeholders, repetition, shape of the lines), because the
  language of a page that fails them is a guess; then the language; then the rules that know English words.
-#}
{%- macro palimpsest_rules() -%}
  {%- set rules = [
    ('gopher_quality.min_words', 'too_short', 'words', 'min', 'min_words'),
    ('gopher_quality.max_words', 'too_long', 'words', 'max', 'max_words'),
    ('gopher_quality.symbol_ratio', 'symbol_noise', 'symbol_ratio', 'max', 'max_symbol_ratio'),
    ('gopher_quality.alphabetic_words', 'symbol_noise', 'alphabetic_words', 'min', 'min_alphabetic_words'),
    ('c4.lorem_ipsum', 'lorem_ipsum', 'lorem_ipsum', 'max', 'max_lorem_ipsum'),
    ('c4.curly_brackets', 'source_code', 'curly_brackets', 'max', 'max_curly_brackets'),
    ('gopher_repetition.duplicate_lines', 'repetition_spam', 'duplicate_lines', 'max', 'max_duplicate_lines'),
    ('gopher_repetition.duplicate_line_characters', 'repetition_spam', 'duplicate_line_characters', 'max',
      'max_duplicate_line_characters'),
    ('gopher_repetition.duplicate_paragraphs', 'repetition_spam', 'duplicate_paragraphs', 'max',
      'max_duplicate_paragraphs'),
    ('gopher_repetition.duplicate_paragraph_characters', 'repetition_spam', 'duplicate_paragraph_characters', 'max',
      'max_duplicate_paragraph_characters'),
  ] -%}
  {%- for n in (2, 3, 4) -%}
    {%- do rules.append(('gopher_repetition.top_%dgram' % n, 'repetition_spam', 'top_%dgram' % n, 'max',
      'max_top_%dgram' % n)) -%}
  {%- endfor -%}
  {%- for n in range(5, 11) -%}
    {%- do rules.append(('gopher_repetition.duplicate_%dgrams' % n, 'repetition_spam', 'duplicate_%dgrams' % n, 'max',
      'max_duplicate_%dgrams' % n)) -%}
  {%- endfor -%}
  {%- do rules.extend([
    ('fineweb.lines_punctuated', 'link_farm', 'lines_punctuated', 'min', 'min_lines_punctuated'),
    ('fineweb.short_lines', 'link_farm', 'short_lines', 'max', 'max_short_lines'),
    ('fineweb.newlines_per_word', 'link_farm', 'newlines_per_word', 'max', 'max_newlines_per_word'),
    ('gopher_quality.bullet_lines', 'link_farm', 'bullet_lines', 'max', 'max_bullet_lines'),
    ('gopher_quality.ellipsis_lines', 'cut_off_lines', 'ellipsis_lines', 'max', 'max_ellipsis_lines'),
    language_rule(),
    ('gopher_quality.min_mean_word_length', 'symbol_noise', 'mean_word_length', 'min', 'min_mean_word_length'),
    ('gopher_quality.max_mean_word_length', 'symbol_noise', 'mean_word_length', 'max', 'max_mean_word_length'),
  ]) -%}
  {%- if threshold('language') == 'en' -%}
    {%- do rules.extend([
      ('gopher_quality.stop_words', 'no_prose', 'stop_words', 'min', 'min_stop_words'),
      ('c4.policy_lines', 'boilerplate_only', 'policy_words', 'max', 'max_policy_words'),
      ('c4.sentences', 'no_prose', 'sentences', 'min', 'min_sentences'),
    ]) -%}
  {%- endif -%}
  {{ return(rules) }}
{%- endmacro -%}
