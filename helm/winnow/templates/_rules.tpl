{{/* Seconds until a Deployment that does not get ready counts as failed: download and start, and a minute to schedule. */}}
{{- define "winnow.progressDeadline" -}}
{{- with .Values.probes.startup -}}
{{- add (mul (int .periodSeconds) (int .failureThreshold)) 60 -}}
{{- end -}}
{{- end -}}

{{/* What values.schema.json cannot say: values that are right alone and wrong together. */}}
{{- define "winnow.rules" -}}
{{- $values := .Values -}}
{{- with $values.sparsity -}}
{{- if or (le (float64 .default) 0.0) (le (float64 .max) 0.0) -}}
{{- fail (printf "sparsity.default is %v and sparsity.max is %v, but both must be greater than 0. Choose values such as 0.975, or 1 for dense." .default .max) -}}
{{- end -}}
{{- if gt (float64 .min) (float64 .max) -}}
{{- fail (printf "sparsity.min is %v and sparsity.max is %v, but the minimum must not be above the maximum. Choose such bounds." .min .max) -}}
{{- end -}}
{{- if or (lt (float64 .default) (float64 .min)) (gt (float64 .default) (float64 .max)) -}}
{{- fail (printf "sparsity.default is %v, but must lie within sparsity.min (%v) and sparsity.max (%v). Change one of them." .default .min .max) -}}
{{- end -}}
{{- end -}}
{{- range $path, $secret := dict "auth.apiKey" $values.auth.apiKey "huggingface.token" $values.huggingface.token -}}
{{- if and $secret.value $secret.existingSecret -}}
{{- fail (printf "%s has a value and an existingSecret (%s), but only one of them can hold. Remove one." $path $secret.existingSecret) -}}
{{- end -}}
{{- end -}}
{{- with $values.auth.apiKey.value -}}
{{- if not (regexMatch "^[!-~]{16,}$" .) -}}
{{- fail (printf "auth.apiKey.value has %d characters, but the server takes keys of at least 16 visible ASCII characters. Take what `openssl rand -hex 32` prints." (len .)) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $values.cache.type "existingClaim") (not $values.cache.existingClaim) -}}
{{- fail "cache.type is existingClaim, but cache.existingClaim is empty. Name the claim." -}}
{{- end -}}
{{- range $label, $_ := include "winnow.labels" . | fromYaml -}}
{{- if hasKey $values.podLabels $label -}}
{{- fail (printf "podLabels holds %s, but the chart's own labels and selectors do too. Remove it." $label) -}}
{{- end -}}
{{- end -}}
{{- include "winnow.gpuRules" . -}}
{{- include "winnow.scalingRules" . -}}
{{- include "winnow.routeRules" . -}}
{{- include "winnow.argumentRules" . -}}
{{- end -}}

{{- define "winnow.gpuRules" -}}
{{- $values := .Values -}}
{{- $name := $values.gpu.resourceName -}}
{{- if or (hasKey ($values.resources.limits | default dict) $name) (hasKey ($values.resources.requests | default dict) $name) -}}
{{- fail (printf "resources names %s, but the chart asks for as many as parallel.tensor says. Remove it there." $name) -}}
{{- end -}}
{{- if $values.multiNode.enabled -}}
{{- if mod (int $values.parallel.tensor) (int $values.multiNode.size) -}}
{{- fail (printf "parallel.tensor is %v and multiNode.size is %v, but every pod must get the same number of GPUs. Make parallel.tensor a multiple." $values.parallel.tensor $values.multiNode.size) -}}
{{- end -}}
{{- if and (include "winnow.cacheClaim" .) (eq $values.cache.type "persistentVolumeClaim") (not (has "ReadWriteMany" $values.cache.accessModes)) -}}
{{- fail "multiNode.enabled is true, but cache.accessModes has no ReadWriteMany, so that only one node could mount the cache. Add it, or set cache.type to emptyDir." -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "winnow.scalingRules" -}}
{{- with .Values.podDisruptionBudget -}}
{{- if and (ne (toString .minAvailable) "") (ne (toString .maxUnavailable) "") -}}
{{- fail (printf "podDisruptionBudget.minAvailable is %v and podDisruptionBudget.maxUnavailable is %v, but only one of them can hold. Remove one." .minAvailable .maxUnavailable) -}}
{{- end -}}
{{- end -}}
{{- with .Values.autoscaling -}}
{{- if and .hpa.enabled .keda.enabled -}}
{{- fail "autoscaling.hpa and autoscaling.keda are both enabled, but KEDA makes a HorizontalPodAutoscaler of its own. Disable one." -}}
{{- end -}}
{{- if gt (int .minReplicas) (int .maxReplicas) -}}
{{- fail (printf "autoscaling.minReplicas is %v and autoscaling.maxReplicas is %v, but the fewest must not be more than the most. Change one." .minReplicas .maxReplicas) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "winnow.routeRules" -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.enabled is true, but ingress.hosts is empty. Name a host." -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.enabled is true, but httpRoute.parentRefs is empty. Name the gateway that takes the route in." -}}
{{- end -}}
{{- end -}}

{{/* Options that other objects depend on have one place, their value. */}}
{{- define "winnow.argumentRules" -}}
{{- $places := dict
  "--api-key" "auth.apiKey"
  "--port" "service.port"
  "--model" "model.name"
  "--served-model-name" "model.servedName"
  "--tensor-parallel-size" "parallel.tensor"
  "-tp" "parallel.tensor"
  "--distributed-executor-backend" "multiNode.enabled"
  "--shutdown-timeout" "shutdown.drainSeconds"
  "--ssl-certfile" "ingress.tls"
  "--ssl-keyfile" "ingress.tls"
  "--uds" "service.port"
-}}
{{- range .Values.extraArgs -}}
{{- $option := index (splitList "=" .) 0 | replace "_" "-" -}}
{{- with get $places $option -}}
{{- fail (printf "extraArgs holds %s, but the rest of the release depends on it. Set %s instead." $option .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
