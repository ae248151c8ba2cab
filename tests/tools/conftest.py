from tests.stages.conftest import own_folder as own_folder
