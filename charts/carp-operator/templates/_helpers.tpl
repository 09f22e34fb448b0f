{{- define "carp.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* Names of the two accounts, which the admission policy and the roles are about. */}}
{{- define "carp.agent" -}}
{{ .Values.node.agent.serviceAccount.name | default (printf "%s-agent" .Values.fullnameOverride) }}
{{- end -}}
{{- define "carp.controller" -}}
{{ .Values.controller.serviceAccount.name | default (printf "%s-controller" .Values.fullnameOverride) }}
{{- end -}}

{{/* Of a component, as selectors use them: never changed, and without the release's name, since there is one
     of each in a cluster. */}}
{{- define "carp.selector" -}}
app.kubernetes.io/name: carp-operator
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Of an object; `more` are the user's for this one, and count before commonLabels. */}}
{{- define "carp.labels" -}}
{{ include "carp.selector" . }}
app.kubernetes.io/part-of: carp-operator
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with merge (dict) (.more | default dict) .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Of a pod: nothing that another version of the chart changes, or each upgrade would restart carpd. */}}
{{- define "carp.podLabels" -}}
{{ include "carp.selector" . }}
{{- with merge (dict) (.more | default dict) .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* An address for a probe of the kubelet, which runs on the node itself. */}}
{{- define "carp.local" -}}
{{ eq . "[::1]" | ternary "::1" "127.0.0.1" }}
{{- end -}}

{{/* What a program that needs no privilege may do. */}}
{{- define "carp.unprivileged" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "carp.servers" -}}
{{- range .Values.apiServer.endpoints }}
- --api-server={{ . }}
{{- end }}
{{- end -}}

{{/* Where the controller and the pods of hooks run: what one of them needs to reach an API server, all need. */}}
{{- define "carp.placement" -}}
{{- with .Values.controller }}
{{- if .hostNetwork }}
hostNetwork: true
dnsPolicy: ClusterFirstWithHostNet
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if or .tolerations .hostNetwork }}
tolerations:
  {{- with .tolerations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- if .hostNetwork }}
  # What a node has before its pod network.
  - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoSchedule}
  - {key: node.kubernetes.io/network-unavailable, operator: Exists, effect: NoSchedule}
  {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A pod of a hook: as little as it needs, where the controller may run. */}}
{{- define "carp.hookPod" -}}
restartPolicy: Never
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "carp.placement" . | trim }}
{{ . }}
{{- end }}
{{- end -}}
