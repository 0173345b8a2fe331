#!/bin/bash
# As OpenWhisk's own does, it takes what hostname prints for one address.
set -eu
read -ra address <<<"$(hostname -i)"
if [ ${#address[@]} -ne 1 ]; then
    echo "hostname -i prints ${#address[@]} addresses: ${address[*]}" >&2
    exit 1
fi
exec /controller --ignored --exact --nocapture the_stand_in_controller
