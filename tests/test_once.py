import pytest
from jaxtyping import TypeCheckError, jaxtyped
from once import typechecked


def made(kind, returned, *default):
    """A function within a function: the same code with other annotations, and with a default or without one."""
    if default:

        @jaxtyped(typechecker=typechecked)
        def inner(x: kind = default[0]) -> returned:
            return x

    else:

        @jaxtyped(typechecker=typechecked)
        def inner(x: kind) -> returned:
            return x

    return inner


def test_functions_of_one_signature_are_each_checked_and_each_their_own():
    for _ in range(2):
        assert made(int, int)(1) == 1 and made(float, float)(1) == 1 and made(str, str)("a") == "a"
        for wrong in (made(int, int), made(int, str), made(str, int)):
            with pytest.raises(TypeCheckError):
                wrong(1.5)
        with pytest.raises(TypeCheckError, match="return value"):
            made(int, str)(1)


def test_a_default_belongs_to_its_own_function():
    assert made(int, int, 1)() == 1 and made(int, int, 2)() == 2
    with pytest.raises(TypeError, match="missing"):
        made(int, int)()


def test_a_check_is_compiled_once():
    def again():
        def signed(x: int) -> int: ...

        return signed

    first, second = again(), again()
    assert first is not second and typechecked(first) is typechecked(second)
