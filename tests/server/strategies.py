"""What strangers may put where a value is expected, for tests that draw their input."""

from hypothesis import strategies as st

# Everything that JSON can write as a string, halves of surrogate pairs included.
texts = st.text(st.characters(), max_size=40)
# Python's parser also takes NaN and the infinities, and numbers of any size.
numbers = st.one_of(
    st.integers(),
    st.integers(min_value=-(10**400), max_value=10**400),
    st.floats(),
    st.floats(min_value=0.0, max_value=1.0),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
json_values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)
